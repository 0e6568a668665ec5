"""What is out of the ordinary, and what is told of it and when. Pure: times are passed in."""
