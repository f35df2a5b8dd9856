"""One network, one data set, one training run; knows no sweep."""
