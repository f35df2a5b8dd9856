"""Networks of other libraries by name, `timm:NAME` and `torchvision:NAME`."""
