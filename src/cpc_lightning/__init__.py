"""Train an accurate image classifier from wrongly labeled data, and learn which labels are wrong."""
