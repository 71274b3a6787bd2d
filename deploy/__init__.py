"""How edgematrix is run beyond one computer: units for servers, and a lab of emulated devices."""
