"""The learning rate × weight decay study."""
