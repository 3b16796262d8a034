"""What every other module stands on: types, checks of arguments, and trees with their paths."""
