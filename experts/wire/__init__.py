"""How providers are asked and how their answers are read, in each wire format. Pure; no HTTP."""
