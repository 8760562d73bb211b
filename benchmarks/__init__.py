"""Programs behind `make bench-*`. They measure; nothing imports them."""
