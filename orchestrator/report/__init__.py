"""The report: one HTML page and its figures, made of results handed in. Start at ``page.render_report``."""
