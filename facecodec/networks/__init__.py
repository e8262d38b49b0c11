"""Float torch networks of the encoder and the training twins of the integer decoder."""
