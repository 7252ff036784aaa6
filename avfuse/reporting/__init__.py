"""What an alignment looks like to a person.

text      tables and sentences for the terminal
timeline  the picture of every recording on the common timeline
"""
