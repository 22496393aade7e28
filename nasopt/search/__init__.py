"""The search: the only part of nasopt that knows Optuna."""
