package console

// Local is where a form's "next" or "back" leads.
var Local = local
