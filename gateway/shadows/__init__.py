"""The roads not taken: other experts are asked the same afterwards, apart from what it cost."""
