"""Reading a Hugging Face config.json: fields with errors that name them, layers, and the format of the weights."""
