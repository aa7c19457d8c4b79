package ui

import "github.com/torg-network/torg/trade/desk"

// Verified says how far an answer has been verified: a badge's tone and words,
// and a sentence. exact is whether it can be re-executed at all.
func Verified(a desk.Audit, exact bool) (t Tone, words, sentence string) {
	switch a {
	case desk.AuditProven:
		return Good, "proof checked", "A proof that the work gave this answer was checked here, before more was paid."
	case desk.AuditUnproven:
		return Warn, "not proven", "This answer was to come with a proof, which is not here, or does not hold."
	case desk.AuditEqual:
		return Good, "re-executed: equal", "The work was done again on the same request and gave the same answer, bit by bit."
	case desk.AuditDifferent:
		return Bad, "re-executed: different", "Done again, the work gives another answer than the one that was sold."
	case desk.AuditChallenged:
		return Busy, "challenged", "Done again, the work gives another answer than the one that was sold; the ledger's judges are looking at it."
	case desk.AuditSlashed:
		return Bad, "false: provider slashed", "The answer was false. The ledger found so too and took the provider's bond."
	case desk.AuditUpheld:
		return Good, "upheld by the judges", "It was challenged, and the judges found it right."
	}
	if exact {
		return Plain, "signed", "The provider signed for it. It can be done again at any time to see whether it is true."
	}
	return Plain, "signed, not verifiable", "The provider signed for it. It cannot be done again here to the bit, so you trust its provider."
}
