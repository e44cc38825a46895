"""Why an expert was chosen, in numbers and in sentences for people."""
