"""What a folder of Transformers can be: a classifier of texts or of tokens, or an embedding."""
