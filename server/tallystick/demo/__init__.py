"""The main job told as a story, on a local chain, with stock clients.

``command`` is ``tallystick demo``. It sets the ``stage`` (a chain, a server of its own
process), sends the stock ``clients`` to go ``shopping`` there, plays a few ``tricks``
on the server and has the books proven in ``ending``. What is told is checked first:
anything that comes out otherwise raises ``StoryBroke``.
"""
