"""Rows: where they are (`source`), whether the files are sound (`heads`), what rows mean (`formats`), and `read`."""
