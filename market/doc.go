// Package market is the lease machine: how every kind of work on the square is
// ordered, bonded, paid, disputed and ended. It is pure: a [Machine] turns an
// operation at a time into reads and writes of a [Store] and returns [Event]s.
// It does no I/O, has no clock (every operation is given now, in seconds) and knows
// no trade by name. The ledger runs it over consensus state; [Memory] runs it over
// maps.
//
// The caller authenticates. Signatures of orders, quotes, vouchers, receipts and
// consents, what evidence and answers open, and who was drawn as a judge are
// checked before an operation is called (square has the bytes), and ids are digests
// that the caller computed, since they depend on the ledger's domain: a lease's id is
// its order's.
//
// # Time
//
// There are two clocks. The one that every operation is given, and that all
// deadlines are on, may stand still: a ledger stops it while blocks have no room, so
// that nobody loses money for not having been heard. What people sign (the expiry of
// offers, orders, quotes) is in the wall's time, [Machine.Lag] seconds ahead. No
// deadline whose passing costs somebody money is shorter than Notice.
//
// # States
//
//	Open --Match--> Matched --Start--> Active        (a ready quote, OpenMatched: at once)
//	Open --Cancel--> Cancelled                       --poke--> Cancelled (expired)
//	Matched --Cancel--> Cancelled                    --poke--> Failed (no_start)
//	Matched, Active --Abandon--> Failed (abandoned)
//
//	a stream:
//	Active --Redeem--> Active                        --poke--> Failed (idle), Draining (ended)
//	Active --TopUp, Extend--> Active
//	Active --Close--> Settled (agreed), Draining (closed)
//	Active --Reclaim--> Draining (reclaimed)
//	Draining --Redeem--> Draining, final: Settled    --poke--> Settled (closed, ended, reclaimed)
//	Draining --Close--> Settled (agreed), Draining (closed)
//	Active, Draining --Challenge--> Disputed --Redeem--> Disputed
//
//	a result:
//	Active, Draining --Claim--> Claimed              --poke--> Failed (late)
//	Active --Close--> Draining (closed)              --poke--> Settled (closed)
//	Claimed --Accept--> Settled (accepted)           --poke--> Settled (unchallenged)
//	Claimed --Withhold, once--> Owed --Answer--> Claimed --poke--> Slashed (withheld)
//	Claimed --Challenge--> Disputed
//
//	a replicated result (see Replication):
//	Replicating --Cancel, while no replica is matched--> Cancelled
//	Replicating --all shown: agreed--> Settled (replicated)    --poke--> Failed (no_replicas)
//	Replicating --five shown: not agreed--> Failed (disagreed)
//	its replicas:
//	Open, drawn --Invite--> Open                     --poke--> Open (the next draw), Cancelled (expired)
//	Active --Commit--> Committed --all have--> Showing --poke--> Slashed (unshown)
//	Showing --Show--> Claimed --all have--> Claimed, compared
//	Claimed, compared, as agreed: as above           --poke--> Settled (unchallenged)
//	Claimed, compared, not as agreed                 --poke--> Slashed (outvoted), at once
//	any, its order being over                        --poke--> Failed (disagreed, no_replicas), Cancelled
//
//	Disputed --verdict ok--> Settled (upheld); a stream: back to where it was
//	Disputed --verdict fraud--> Slashed (fraud), unavailable: whoever owed the bytes has lost
//	by judges: Disputed --Seat, Commit, Vote--> Disputed; a quorum of votes is the verdict
//	                                                 --poke--> the next draw; after the last, Settled (judges_silent), a stream: back
//	by the ledger: Disputed --Judge--> the verdict, in the transaction that challenges
//	by proof: Disputed --Prove--> as verdict ok      --poke--> Slashed (unproven)
//
// Every state has a deadline. From it on a lease takes no operation but
// [Machine.Poke], which carries out the exit in the right column; so what a
// lease is worth at a time does not depend on who is quicker, and
// [Machine.Project] can tell it. One poke goes through as many exits as are
// due. An ended lease is kept for Retention and then pruned; an offer that has
// expired and of which nothing is leased is dropped.
//
// # Money
//
// A buyer's money waits in the lease's escrow, a provider's in its stake, of
// which open leases lock their bonds and disputes the bonds of judges' seats.
//
//	pay: escrow -> fee (FeeBps: treasury, burned) + provider (part of it into stake while the bond is small)
//	     minted -> provider, at most EmissionBps of what was burned, in the ledger's own denom only
//	refund: escrow -> buyer
//	no_start, abandoned, late, idle: a share of the bond (AbandonBps, LateBps, the order's Silence) -> buyer (at most CancelBps of the order's escrow), burned
//	Cancel of what a provider has bonded for: escrow -> provider (CancelBps of the order's escrow), then refund
//	fraud, unproven, withheld: refund, then the whole bond -> challenger (the fees of its challenge), judges (JudgeFee a vote), buyer (up to what it had paid), judges (BallotCost each), challenger (ReporterBps of the rest), burned
//	upheld: a challenger's bond -> judges (JudgeFee a vote, BallotCost each), provider
//	answered: a buyer's bond -> provider (the fees of its answer), back
//	a silent judge's bond -> burned; where a whole draw found nothing, first the fees of the challenge to each side
//	a replica: escrow of its order -> its escrow (the job value); where it ends without a claim, back
//	outvoted, unshown: bond -> buyer (at most the job value), burned; without a bond, the stake that no other work has locked
//	a poke's bounty: out of the penalty, or of the refund where the provider is not at fault; none from a dispute
//
// Every share rounds down; what is left over by the fee's split and by a
// penalty is burned, by a payment is the provider's, by a challenge's least
// bond is rounded up. Shares of pay are taken of the running sum, so that they
// do not depend on how the sum was cut.
//
// Failover: when the provider of an order that allows it does not start, falls
// idle, is late, walks away or reclaims, what is left of the escrow goes to a
// child lease, [ChildID], with the same spec. It waits for a provider as long
// as the first did. A slashed, closed, ended or given-up lease has no child.
//
// # Replication
//
// A result may be ordered from providers that need not be trusted, nor trust each
// other (policy replicate). The order's lease holds the escrow, which is at least
// five times the job value, the most that one replica costs; two replicas, leases of
// their own with an escrow of a job value out of it, wait for a provider each. A
// provider runs one of them, the buyer none, and of two one at least is bonded, with
// the job value or what a dispute costs if that is more.
//
// Nobody can copy what others have come to: a provider commits to its signed receipt,
// and shows it when all have committed. It hands the result itself to the buyer once
// the replica is compared, and not before: then the buyer may say that it was
// withheld, and anyone may challenge it, as any claim. Two that are the same decide.
// Otherwise three more are opened, and four of the five decide; two of three never do.
// Who could have seen a result of the others before it commits is drawn, by stake,
// among the stakers that have enlisted, one for a replica, and is bonded.
//
// Those with the agreed result are paid, each by its own rates. One with another
// result, or none to show for its commitment, loses its bond, or without one all of
// its stake that is not locked, unbonding stake included, so that nothing is saved by
// leaving. The evidence is in the lease: the agreed result, or the commitment.
//
// A replica that expires, is not started, late or abandoned gives its escrow back and
// is replaced, three times an order, by a provider that has not failed one. Then, or
// at the order's deadline, which leaves time for all of that, the order has failed
// (no_replicas); the one poke that ends it leaves each replica to a poke of its own.
// Where there was no comparison, a bonded replica goes on as an ordinary result, for a
// claim that anyone may challenge; one without a bond is not paid. If the first two
// have differed and five do not decide, or do not come together (disagreed), nobody is
// paid and nobody is slashed: nobody has handed a result over either.
//
// What it is worth: the first cheat of an identity gains nothing, since it is paid
// only with a result that a bonded stranger has come to alone. Both first replicas in
// one hand agree on whatever they like, at the risk of the one bond, and of the
// challenge that the audit law sizes; nothing here sees it but somebody who does the
// work again. Against an honest first replica, a cheat with a share p of the enlisted
// stake decides with p^3, and else loses its bond; with 1-(1-p)^3 it can spoil the order,
// at which the honest lose their work and no money, and the buyer gets nothing. A
// buyer in league with it gains no result by that. Free riders copy only by having
// talked to each other.
//
// # Invariants
//
//   - I1 money is conserved: the sum of all pots is what was minted
//   - I2 what a lease has paid never falls, and with what it holds never exceeds what was put into its escrow
//   - I3 an ended lease holds no escrow and no bond, and never changes again
//   - I4 what a stake has locked is the sum of the bonds of open leases and of seats, and with what is unbonding at most the stake
//   - I5 a silence and one poke end any lease
//   - I6 a penalty is exactly the share its exit names
//   - I7 a stale or equal claim changes nothing, not even T_idle
//   - I8 an offer's units in use are those of its open leases and at most its capacity
//   - I9 an honest party loses at most one voucher's interval: every end that a buyer chooses leaves the provider its notice, and no dispute holds more than what is disputed
//   - I10 nothing is slashed without the hash of evidence in the lease
//   - I11 a quote is used once
//   - I12 a lease never earns more emission than the fee it burned
//   - I13 nothing is paid for a result without a receipt that its provider signed for the order's request, or after the buyer has said in vain that it was withheld
//   - I14 a challenge costs its sender, if it is wrong, at least Dispute
//   - I15 a replica is slashed only for a result that differs from the agreed one, or for not showing what it committed to
//   - I16 no result of a replica is on the ledger before everybody has committed to one, but for those who were drawn
//
// Package walk checks them, and the money of every exit against a separate
// account, along random histories.
//
// # Where it refines the design
//
//   - A buyer's close without the provider's consent drains first; settling at
//     once would cost the provider its last voucher (I9).
//   - A stream that reaches its duration drains as well, for the same reason.
//   - A dispute stops the clocks of the lease; an upheld stream gets the time back,
//     and all but the disputed value is redeemed meanwhile.
//   - A result that is not claimed by its deadline costs LateBps of the bond.
//   - After Hearings disputes only the buyer may challenge a stream, so
//     that a provider cannot hold its money by challenging itself.
//   - Re-draws count from the challenge, not from the poke, so that one poke is enough.
//   - The price of silence is the provider's to avoid: redeeming a unit counts as a
//     sign of life, and a buyer that has stopped paying is reclaimed from, with notice.
package market
