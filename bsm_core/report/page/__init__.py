"""Drawing the page of a report: charts, sections and the template."""
