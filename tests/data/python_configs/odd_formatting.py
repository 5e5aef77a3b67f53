# -*- coding: utf-8 -*-
"""A title; with: colons."""
model=dict( type = "EncoderDecoder" ,backbone = dict(
        depth = 18 , # the smallest
    )
  ); n = 3 ; m = (
    1)
lr = ( 0.1
  if n == 3 else
  0.2 )
names = ('a'
         'b')
one = 1,
if m == 1: extra = dict(a = 1)
else: extra = None
x = y = [1, 2]
x.append(3)
z = lambda: 5
w = z() + (k := 4)
