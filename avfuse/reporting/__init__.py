"""What alignments, measurements and datasets look like to a person.

text      tables and sentences for the terminal
timeline  the picture of every recording on the common timeline
page      the HTML page that explains an alignment; its figures in drawing, its sentences in words,
          its sounds in snippets, and what the recordings say when measured again in measuring
panels    the rows of both
dataset   the card of a prepared dataset; its page in dataset_page, its figures in dataset_statistics and
          distributions, its words in dataset_words
"""
