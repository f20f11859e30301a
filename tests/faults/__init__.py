"""Plants faults in the template, one at a time, and reports those that no test notices."""
