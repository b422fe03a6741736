"""Bulk provisioning, as far as it stands by itself: specs, the journal, pacing. No engine yet."""
