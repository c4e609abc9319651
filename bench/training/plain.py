"""What one would write without Trimtab: transformers' Trainer and peft on the same records.

Reads the settings as JSON from its first argument, writes the adapter and its own timing.
"""

import json
import os
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)


def encoded(
    tokenizer: PreTrainedTokenizerBase, record: dict[str, str], limit: int
) -> dict[str, list[int]]:
    """The chat template, with the loss on the answer only."""
    user = {"role": "user", "content": record["prompt"]}
    answer = {"role": "assistant", "content": record["completion"]}
    asked = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([user, answer], tokenize=False)
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"][:limit]
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    return {"input_ids": ids, "labels": labels[: len(ids)], "attention_mask": [1] * len(ids)}


def main() -> None:
    given = json.loads(sys.argv[1])
    settings = given["hyperparameters"]
    torch.set_num_threads(given["threads"])
    set_seed(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(given["base"])
    lines = Path(given["data"]).read_text().splitlines()
    rows = [encoded(tokenizer, json.loads(line), settings["maxLength"]) for line in lines]
    model = AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"
    )
    model = get_peft_model(model, config)
    arguments = TrainingArguments(
        output_dir=given["output"],
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batchSize"],
        learning_rate=settings["learningRate"],
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        max_grad_norm=1.0,
        weight_decay=0.0,
        seed=settings["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    )
    cpu = sum(os.times()[:2])
    result = trainer.train()
    model.save_pretrained(given["output"])
    told = {
        "seconds": result.metrics["train_runtime"],
        "cpuSeconds": sum(os.times()[:2]) - cpu,
        "tokens": sum(len(row["input_ids"]) for row in rows) * settings["epochs"],
    }
    (Path(given["output"]) / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
