"""The browser viewer: streams, recorded or growing, on a page that this machine serves itself."""
