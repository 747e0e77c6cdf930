"""marginseg where people work: MONAI, TorchIO, nnU-Net, torchmetrics."""
