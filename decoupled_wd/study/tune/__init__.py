"""A search for the best hyperparameters within a budget: Optuna's, trained in one program."""
