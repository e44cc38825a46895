"""What our HTTP interface takes and answers, for the document that programs read."""
