"""How parametric heads learn: one trainer, the losses and the regularisers that plug into it."""
