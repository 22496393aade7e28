"""What optuna-dashboard shows beyond the trials: notes on the study and on the chosen trial."""

from collections.abc import Sequence

import optuna
from optuna_dashboard import save_note

from nasopt.records import Verification

CHOSEN_KEY = "nasopt:chosen"


def annotate_choice(
    study: optuna.Study, verification: Verification, reasons: Sequence[str]
) -> None:
    """Writes why a network was chosen on the study's page and on its trial's.

    Notes are study attributes, which samplers read at every ask: so only the choice has one.
    """
    candidate = verification.candidate
    lines = [
        f"## Chosen: trial {verification.number}, {verification.n_params:,} parameters",
        "",
        f"`{candidate.genome}`",
        "",
        f"lr {candidate.lr:.4g}, lr_decay {candidate.lr_decay:.4g}; test accuracy {verification.mean:.2%} "
        f"± {verification.sd:.2%} over {len(verification.seeds)} seeds, {verification.n_passed} of them "
        f"above {verification.bar:.1%}.",
        "",
        *(f"- {reason}" for reason in reasons),
    ]
    before = study.user_attrs.get(CHOSEN_KEY)
    if before is not None and before != verification.number:
        save_note(_trial(study, before), f"Chosen earlier; now it is trial {verification.number}.")
    save_note(study, "\n".join(lines))
    save_note(_trial(study, verification.number), "\n".join(lines))
    study.set_user_attr(CHOSEN_KEY, verification.number)


def _trial(study: optuna.Study, number: int) -> optuna.trial.Trial:
    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
