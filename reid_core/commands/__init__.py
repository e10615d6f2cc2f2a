"""Commands that are more than a few lines: each adds its options and acts on them."""
