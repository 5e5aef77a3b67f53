tiny, small, whole, large = 1e-05, 0.0001, 1.0, 1e+22
half, negative = .5, -2.50
big = 12345678901234567890
hexadecimal = 0x1f
million = 1_000_000
infinite = float('inf')
quotes = 'a "b" \'c\''
umlaut = 'Straße, 道路, 🚗'
lines = """first
second	tab"""
empty = ['', [], (), {}]
yes, nothing = True, None
nested = ((1, 2), [3, (4, )], {'a': (5, 6)})
words = {'yes': 'no', 'null': '~', '1': 'one', 'on': 'off'}
looks_like = ['1e5', '0x10', 'true', 'null', '2024-01-01', '1:30', ' padded ', '#', 'a: b']
