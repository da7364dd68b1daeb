package retry

import (
	"sync/atomic"
	"time"
)

// The numbers of a [Budget].
const (
	// BudgetRatio is what each call adds, in tokens: a tenth of a retry.
	BudgetRatio = 0.1
	// BudgetPerSecond is what each second adds, in tokens, so that a client
	// that makes few calls can retry at all.
	BudgetPerSecond = 1
	// BudgetMax is the most that is saved up, in tokens, and what a new budget
	// starts with.
	BudgetMax = 20
)

// The balance is kept in thousandths of a token, so that a millisecond and a
// call are whole numbers.
const (
	token   = 1000
	perCall = int64(BudgetRatio * token)
	perMs   = BudgetPerSecond * token / 1000
	full    = BudgetMax * token
)

// Budget is what one client may spend on retries of one service. Calls that
// need no retry fill it, so that retries stay a small part of the load even
// when everything fails. Use [NewBudget].
type Budget struct {
	start   time.Time
	balance atomic.Int64
	paidFor atomic.Int64 // milliseconds since start that were credited
}

// NewBudget returns a full budget.
func NewBudget(now time.Time) *Budget {
	b := &Budget{start: now}
	b.balance.Store(full)
	return b
}

// Deposit records one call. While the budget is full it only reads.
func (b *Budget) Deposit(now time.Time) {
	b.refill(now)
	b.add(perCall)
}

// Withdraw pays for a retry, and reports false without paying anything if the
// budget does not hold as much. A cost of zero or less is always paid.
func (b *Budget) Withdraw(now time.Time, cost int) bool {
	if cost <= 0 {
		return true
	}
	b.refill(now)
	want := int64(cost) * token
	for {
		have := b.balance.Load()
		if have < want {
			return false
		}
		if b.balance.CompareAndSwap(have, have-want) {
			return true
		}
	}
}

// Tokens is the balance, from 0 to [BudgetMax].
func (b *Budget) Tokens(now time.Time) float64 {
	b.refill(now)
	return float64(b.balance.Load()) / token
}

func (b *Budget) refill(now time.Time) {
	elapsed := now.Sub(b.start).Milliseconds()
	paid := b.paidFor.Load()
	// Whoever wins the exchange credits the time; the others need not wait.
	if elapsed > paid && b.paidFor.CompareAndSwap(paid, elapsed) {
		b.add((elapsed - paid) * perMs)
	}
}

func (b *Budget) add(n int64) {
	for {
		have := b.balance.Load()
		if have >= full || b.balance.CompareAndSwap(have, min(have+n, full)) {
			return
		}
	}
}
