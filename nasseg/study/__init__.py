"""Studies: a file that asks a question, a driver that decides, engines that run jobs, and an Optuna record."""
