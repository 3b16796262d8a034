"""The claims of the paper and of what it leans on, one module each: train, judge, draw."""
