"""Files of models: those that come inside Python packages, and adapters tuned on the log."""
