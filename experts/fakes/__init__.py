"""An expert and providers that do what a script says, for tests and trials."""
