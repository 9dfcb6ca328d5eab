"""The losses: contrastive pairs, frames against texts, and those beside them."""
