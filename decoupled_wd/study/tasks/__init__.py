"""What is learned: data sets, networks, and runs of them."""
