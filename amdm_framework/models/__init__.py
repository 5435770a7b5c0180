"""What every provider of the Stable Diffusion family needs: checkpoints, base components, shared weights."""
