"""How long will the next stage take: reference times and the slowdown of the moment."""
