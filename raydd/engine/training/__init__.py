"""Teachers, students, and the loop that trains them."""
