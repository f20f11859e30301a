"""A project made from the template: its answers, its repository, and the merge of an update."""
