"""Which language a text is in, by py3langid, whose model comes in its package."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab_api.reasons import FailureReason
from trimtab_pipelines.runtime import RunError

# The beginning tells; a whole book would cost seconds.
_LOOKED_AT = 2000


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - loads a model

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str) -> tuple[str, float]:
    """The likeliest language and how likely it is."""
    language, probability = _identifier().classify(text[:_LOOKED_AT])
    return str(language), float(probability)


class LanguageJudge:
    """Whether a text is in one of some languages, surely enough."""

    def __init__(self, allowed: Sequence[str], at_least: float) -> None:
        known = {str(label) for label in _identifier().labels}
        unknown = sorted(set(allowed) - known)
        if unknown:
            raise RunError(
                FailureReason.SETTING_UNKNOWN,
                f"clean.languages.allow names {', '.join(unknown)}, which the detection does not "
                f"know; it knows {', '.join(sorted(label for label in known if len(label) == 2))}",
            )
        self._allowed = frozenset(allowed)
        self._at_least = at_least

    def refusal(self, text: str) -> str | None:
        """Why the text is not wanted, or None."""
        language, probability = language_of(text)
        if language in self._allowed:
            if probability >= self._at_least:
                return None
            return f"{language}, but only {probability:.2f} sure"
        if probability <= 1 - self._at_least and self._is_second_choice(text):
            return None
        return f"{language} ({probability:.2f})"

    def _is_second_choice(self, text: str) -> bool:
        ranked = _identifier().rank(text[:_LOOKED_AT])
        return any(
            probability >= self._at_least for name, probability in ranked if name in self._allowed
        )
