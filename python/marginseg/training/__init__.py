"""The network, and how it is trained on pairs of images and labels."""
