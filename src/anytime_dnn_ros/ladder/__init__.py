"""What an anytime model is: the bundle on disk, an answer, and how answers combine."""
