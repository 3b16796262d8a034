"""What only looks: what a decay will do, what it did, and what it is elsewhere."""
