"""One network, one data set, one training run; this package knows no sweep."""
