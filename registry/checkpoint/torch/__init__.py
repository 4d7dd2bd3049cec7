"""Files of torch.save: zip and legacy forms, read through an allow-list."""
