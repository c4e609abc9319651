"""The loss of an adapter on held-out pairs, the same way for whoever trained it."""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_pipelines.prompts import render_example


def main() -> None:
    torch.set_num_threads(1)  # one sequence at a time is too little for more
    base, adapter, data = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    total, counted = 0.0, 0
    with torch.no_grad():
        for line in Path(data).read_text().splitlines():
            ids, labels = render_example(tokenizer, json.loads(line), 256)
            logits = model(torch.tensor([ids])).logits[0, :-1]
            targets = torch.tensor(labels[1:])
            total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            counted += int((targets != -100).sum())
    print(total / counted)


if __name__ == "__main__":
    main()
