// Package market is the lease machine: how every kind of work on the square is
// ordered, bonded, paid, disputed and ended. It is pure: a [Machine] turns an
// operation at a time into reads and writes of a [Store] and returns [Event]s.
// It does no I/O, has no clock (every operation is given now, in unix seconds)
// and knows no trade by name. The ledger runs it over consensus state;
// [Memory] runs it over maps.
//
// The caller authenticates. Signatures of orders, quotes, vouchers, receipts,
// consents and the standing of judges are checked before an operation is
// called (square has the bytes), and ids are digests that the caller computed,
// since they depend on the ledger's domain: a lease's id is its order's.
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
//	Active --Close--> Settled (agreed), Draining (closed)
//	Active --Reclaim--> Draining (reclaimed)
//	Draining --Redeem--> Draining, final: Settled    --poke--> Settled (closed, ended, reclaimed)
//	Draining --Close--> Settled (agreed), Draining (closed)
//	Active, Draining --Challenge--> Disputed
//
//	a result:
//	Active --Claim--> Claimed                        --poke--> Failed (late)
//	Active --Cancel--> Cancelled
//	Claimed --Accept--> Settled (accepted)           --poke--> Settled (unchallenged)
//	Claimed --Challenge--> Disputed
//
//	Disputed --Judge ok--> Settled (upheld); a stream: back to where it was
//	Disputed --Judge fraud--> Slashed (fraud)        --poke--> the next draw; after the last, Failed (judges_silent)
//	a proof is due: Disputed --Prove--> as Judge ok  --poke--> Slashed (unproven)
//
// Every state has a deadline. From it on a lease takes no operation but
// [Machine.Poke], which carries out the exit in the right column; so what a
// lease is worth at a time does not depend on who is quicker, and
// [Machine.Project] can tell it. One poke goes through as many exits as are
// due. An ended lease is kept for Retention and then pruned.
//
// # Money
//
// A buyer's money waits in the lease's escrow, a provider's in its stake, of
// which open leases lock their bonds.
//
//	pay: escrow -> fee (FeeBps: treasury, burned) + provider (part of it into stake while the bond is small)
//	     minted -> provider, at most EmissionBps of what was burned, in the ledger's own denom only
//	refund: escrow -> buyer
//	no_start, abandoned, late: bond -> buyer (at most CancelBps of the order's escrow), burned
//	Cancel of what a provider has bonded for: escrow -> provider (CancelBps of the order's escrow), then refund
//	fraud, unproven: refund, then the whole bond -> buyer (up to what it had paid), challenger (ReporterBps of the rest), burned
//	a challenger's bond -> provider if the work is upheld, else back
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
// # Invariants
//
//   - I1 money is conserved: the sum of all pots is what was minted
//   - I2 what a lease has paid never falls, and with what it holds never exceeds its escrow
//   - I3 an ended lease holds no escrow and no bond, and never changes again
//   - I4 what a stake has locked is the sum of the bonds of open leases, and with what is unbonding at most the stake
//   - I5 a silence and one poke end any lease
//   - I6 a penalty is exactly the share its exit names
//   - I7 a stale or equal claim changes nothing, not even T_idle
//   - I8 an offer's units in use are those of its open leases and at most its capacity
//   - I9 an honest party loses at most one voucher's interval: every end that a buyer chooses leaves the provider its notice
//   - I10 nothing is slashed without the hash of evidence in the lease
//   - I11 a quote is used once
//   - I12 a lease never earns more emission than the fee it burned
//
// Package walk checks them, and the money of every exit against a separate
// account, along random histories.
//
// # Where it refines the design
//
//   - A buyer's close without the provider's consent drains first; settling at
//     once would cost the provider its last voucher (I9).
//   - A stream that reaches its duration drains as well, for the same reason.
//   - A dispute stops the clocks of the lease; an upheld stream gets the time back.
//   - A result that is not claimed by its deadline costs LateBps of the bond.
//   - After Hearings upheld disputes only the buyer may challenge a stream, so
//     that a provider cannot hold its money by challenging itself.
//   - Re-draws count from the challenge, not from the poke, so that one poke is enough.
//   - A challenge may ask the provider for a proof instead of judges for a
//     verdict. Then silence is the provider's, and it is slashed.
package market
