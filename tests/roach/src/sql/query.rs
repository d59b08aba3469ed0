//! Plans queries.

use sqlparser::ast::{self, SetExpr, TableFactor};

use super::bind::{Binder, Groups, Scope, ScopeColumn, arguments, fold};
use super::expr::Expr;
use super::plan::{AggregateKind, Grouping, OutputColumn, Select, Source};
use super::value::Type;
use crate::catalog::Table;
use crate::errors::SqlError;
use crate::kv::Strength;

/// What a query's lock is called in error texts, or that there is none.
pub(super) type Lock<'a> = Option<&'a str>;

impl Binder<'_> {
    /// Plans a query; a lock of the query around it applies to it, too.
    pub(super) fn query(
        &mut self,
        query: &ast::Query,
        outer: Lock<'_>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        let own = query.locks.first().map(lock_name);
        let lock = own.or(outer);
        check_wait_policy(query)?;
        let (mut select, columns) = self.body(&query.body, query.order_by.as_ref(), lock)?;
        if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            select.limit = limit.as_ref().map(|limit| self.expect(limit, Type::Int)).transpose()?;
            select.offset =
                offset.as_ref().map(|offset| self.expect(&offset.value, Type::Int)).transpose()?;
        }
        Ok((select, columns))
    }

    fn body(
        &mut self,
        body: &SetExpr,
        order: Option<&ast::OrderBy>,
        lock: Lock<'_>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, order, lock),
            SetExpr::Query(query) => self.query(query, lock),
            SetExpr::Values(values) => {
                refuse_lock(lock, "VALUES")?;
                self.values(values, order)
            }
            SetExpr::SetOperation { left, right, set_quantifier, op: ast::SetOperator::Union } => {
                refuse_lock(lock, "UNION/INTERSECT/EXCEPT")?;
                let (left, columns) = self.body(left, None, None)?;
                let (right, _) = self.body(right, None, None)?;
                let all = *set_quantifier == ast::SetQuantifier::All;
                let source = Source::Union { left: left.into(), right: right.into(), all };
                self.wrapped(source, columns, order)
            }
            other => Err(SqlError::unsupported(other)),
        }
    }

    fn values(
        &mut self,
        values: &ast::Values,
        order: Option<&ast::OrderBy>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        let mut rows = Vec::new();
        let mut types: Vec<Type> = Vec::new();
        for row in &values.rows {
            let bound = row.content.iter().map(|expr| self.bind(expr)).collect::<Result<Vec<_>, _>>()?;
            if types.is_empty() {
                types = bound.iter().map(|(_, ty)| *ty).collect();
            }
            rows.push(bound.into_iter().map(|(expr, _)| expr).collect());
        }
        let column =
            |(index, ty): (usize, &Type)| OutputColumn { name: format!("column{}", index + 1), ty: *ty };
        let columns = types.iter().enumerate().map(column).collect();
        self.wrapped(Source::Values(rows), columns, order)
    }

    /// A query that shows all columns of a source which has no names of its own.
    fn wrapped(
        &mut self,
        source: Source,
        columns: Vec<OutputColumn>,
        order: Option<&ast::OrderBy>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        let outer = std::mem::replace(&mut self.scope, scope_of(&columns, ""));
        let projection: Vec<Expr> = (0..columns.len()).map(Expr::Column).collect();
        let order = self.order(order, &columns, &projection);
        self.scope = outer;
        Ok((Select { order: order?, ..plain(source, projection) }, columns))
    }

    fn select(
        &mut self,
        select: &ast::Select,
        order: Option<&ast::OrderBy>,
        lock: Lock<'_>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        let outer = std::mem::take(&mut self.scope);
        let planned = self.select_in_scope(select, order, lock);
        self.scope = outer;
        self.groups = None;
        planned
    }

    fn select_in_scope(
        &mut self,
        select: &ast::Select,
        order: Option<&ast::OrderBy>,
        lock: Lock<'_>,
    ) -> Result<(Select, Vec<OutputColumn>), SqlError> {
        check_lock(select, lock)?;
        let source = self.from(&select.from, lock)?;
        let filter = select.selection.as_ref().map(|filter| self.expect(filter, Type::Bool)).transpose()?;
        let keys = self.group_keys(select)?;
        let (projection, columns) = self.projection(&select.projection)?;
        let having = select.having.as_ref().map(|having| self.expect(having, Type::Bool)).transpose()?;
        let order = self.order(order, &columns, &projection)?;
        let grouping = keys.map(|keys| {
            let aggregates = self.groups.take().map(|groups| groups.aggregates).unwrap_or_default();
            Grouping { keys, aggregates, having }
        });
        let strength = if lock.is_some() { Strength::Exclusive } else { Strength::Shared };
        let distinct = select.distinct.is_some();
        Ok((Select { filter, grouping, order, distinct, strength, ..plain(source, projection) }, columns))
    }

    fn from(&mut self, from: &[ast::TableWithJoins], lock: Lock<'_>) -> Result<Source, SqlError> {
        let mut source: Option<Source> = None;
        for item in from {
            let first = self.factor(&item.relation, lock)?;
            source = Some(match source {
                None => first.0,
                Some(left) => join(left, first, None, false),
            });
            for joined in &item.joins {
                let right = self.factor(&joined.relation, lock)?;
                let (constraint, outer) = match &joined.join_operator {
                    ast::JoinOperator::Join(constraint) | ast::JoinOperator::Inner(constraint) => {
                        (Some(constraint), false)
                    }
                    ast::JoinOperator::Left(constraint) | ast::JoinOperator::LeftOuter(constraint) => {
                        (Some(constraint), true)
                    }
                    ast::JoinOperator::CrossJoin(_) => (None, false),
                    _ => return Err(SqlError::unsupported(joined)),
                };
                let on = match constraint {
                    Some(ast::JoinConstraint::On(on)) => Some(self.expect(on, Type::Bool)?),
                    Some(ast::JoinConstraint::None) | None => None,
                    Some(_) => return Err(SqlError::unsupported(joined)),
                };
                source = source.map(|left| join(left, right, on, outer));
            }
        }
        Ok(source.unwrap_or(Source::One))
    }

    /// A table, a series or a subquery in FROM, and how many columns it adds to the scope.
    fn factor(&mut self, factor: &TableFactor, lock: Lock<'_>) -> Result<(Source, usize), SqlError> {
        let before = self.scope.len();
        let source = match factor {
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                if name.to_string().to_lowercase() != "generate_series" {
                    return Err(SqlError::new("42883", format!("unknown function: {name}()")));
                }
                self.series(alias.as_ref(), args)?
            }
            TableFactor::Table { name, alias, .. } => {
                let table = self.schema.table(&table_name(name))?;
                let alias = alias.as_ref().map_or_else(|| table.name.clone(), |alias| fold(&alias.name));
                self.scope.extend(scope_of_table(&table, &alias));
                self.tables.push(table.clone());
                Source::Table(table)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let outer = std::mem::take(&mut self.scope);
                let planned = self.query(subquery, lock);
                self.scope = outer;
                let (select, columns) = planned?;
                let alias = alias.as_ref().map(|alias| fold(&alias.name)).unwrap_or_default();
                self.scope.extend(scope_of(&columns, &alias));
                Source::Derived(Box::new(select))
            }
            other => return Err(SqlError::unsupported(other)),
        };
        Ok((source, self.scope.len() - before))
    }

    fn series(
        &mut self,
        alias: Option<&ast::TableAlias>,
        args: &ast::TableFunctionArgs,
    ) -> Result<Source, SqlError> {
        let mut bounds = Vec::new();
        for argument in &args.args {
            match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => {
                    bounds.push(self.expect(expr, Type::Int)?)
                }
                other => return Err(SqlError::unsupported(other)),
            }
        }
        let table = alias.map_or_else(|| "generate_series".into(), |alias| fold(&alias.name));
        let column = alias.and_then(|alias| alias.columns.first()).map(|column| fold(&column.name));
        let name = column.unwrap_or_else(|| table.clone());
        self.scope.push(ScopeColumn { table, name, ty: Type::Int, hidden: false });
        match <[Expr; 2]>::try_from(bounds) {
            Ok([start, end]) => Ok(Source::Series(start, end)),
            Err(_) => Err(SqlError::unsupported("generate_series with a step")),
        }
    }

    /// The keys of GROUP BY; from here on, expressions are over groups. None if the query has no groups.
    fn group_keys(&mut self, select: &ast::Select) -> Result<Option<Vec<Expr>>, SqlError> {
        let ast::GroupByExpr::Expressions(keys, _) = &select.group_by else {
            return Err(SqlError::unsupported("GROUP BY ALL"));
        };
        if keys.is_empty() && !select.projection.iter().any(has_aggregate) {
            return Ok(None);
        }
        let mut bound = Vec::new();
        let mut groups = Groups::default();
        for key in keys {
            let (expr, ty) = self.bind(key)?;
            bound.push(expr);
            groups.keys.push((key.clone(), ty));
        }
        self.groups = Some(groups);
        Ok(Some(bound))
    }

    /// What is shown: expressions and their headers.
    pub(super) fn projection(
        &mut self,
        items: &[ast::SelectItem],
    ) -> Result<(Vec<Expr>, Vec<OutputColumn>), SqlError> {
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => {
                    let (bound, ty) = self.bind(expr)?;
                    exprs.push(bound);
                    columns.push(OutputColumn { name: header(expr), ty });
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    let (bound, ty) = self.bind(expr)?;
                    exprs.push(bound);
                    columns.push(OutputColumn { name: fold(alias), ty });
                }
                ast::SelectItem::Wildcard(_) => self.star(None, &mut exprs, &mut columns),
                ast::SelectItem::QualifiedWildcard(kind, _) => {
                    let table = kind.to_string().to_lowercase();
                    self.star(table.strip_suffix(".*").or(Some(table.as_str())), &mut exprs, &mut columns);
                }
                other => return Err(SqlError::unsupported(other)),
            }
        }
        Ok((exprs, columns))
    }

    fn star(&self, table: Option<&str>, exprs: &mut Vec<Expr>, columns: &mut Vec<OutputColumn>) {
        for (index, column) in self.scope.iter().enumerate() {
            if !column.hidden && table.is_none_or(|table| table == column.table) {
                exprs.push(Expr::Column(index));
                columns.push(OutputColumn { name: column.name.clone(), ty: column.ty });
            }
        }
    }

    fn order(
        &mut self,
        order: Option<&ast::OrderBy>,
        columns: &[OutputColumn],
        projection: &[Expr],
    ) -> Result<Vec<(Expr, bool)>, SqlError> {
        let Some(ast::OrderByKind::Expressions(items)) = order.map(|order| &order.kind) else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for item in items {
            let descending = item.options.to_string().to_uppercase().contains("DESC");
            keys.push((self.order_key(&item.expr, columns, projection)?, descending));
        }
        Ok(keys)
    }

    /// A number or the header of a column stands for what is shown there.
    fn order_key(
        &mut self,
        expr: &ast::Expr,
        columns: &[OutputColumn],
        projection: &[Expr],
    ) -> Result<Expr, SqlError> {
        let text = expr.to_string();
        let by_number = text.parse().ok().and_then(|number: usize| projection.get(number.checked_sub(1)?));
        let by_name = || projection.get(columns.iter().position(|column| column.name == text)?);
        match by_number.or_else(by_name) {
            Some(shown) => Ok(shown.clone()),
            None => Ok(self.bind(expr)?.0),
        }
    }
}

fn plain(source: Source, projection: Vec<Expr>) -> Select {
    Select {
        source,
        filter: None,
        grouping: None,
        projection,
        order: Vec::new(),
        distinct: false,
        limit: None,
        offset: None,
        strength: Strength::Shared,
    }
}

fn join(left: Source, (right, right_width): (Source, usize), on: Option<Expr>, outer: bool) -> Source {
    Source::Join { left: left.into(), right: right.into(), on, outer, right_width }
}

/// A name with its schema, unless that is the one in which names are looked up.
pub(super) fn table_name(name: &ast::ObjectName) -> String {
    let mut parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    let last = parts.pop().unwrap_or_default();
    // What everybody finds without naming it needs no prefix.
    parts.retain(|part| !matches!(part.as_str(), "defaultdb" | "public"));
    parts.push(last);
    parts.join(".")
}

fn scope_of(columns: &[OutputColumn], table: &str) -> Scope {
    let column = |column: &OutputColumn| ScopeColumn {
        table: table.into(),
        name: column.name.clone(),
        ty: column.ty,
        hidden: false,
    };
    columns.iter().map(column).collect()
}

/// The columns of a table, as its rows have them.
pub(super) fn scope_of_table(table: &Table, alias: &str) -> Scope {
    let column = |column: &crate::catalog::Column| ScopeColumn {
        table: alias.into(),
        name: column.name.clone(),
        ty: column.ty,
        hidden: column.hidden,
    };
    table.columns.iter().map(column).collect()
}

/// The header of a column that was given no name.
fn header(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Identifier(name) => fold(name),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(fold).unwrap_or_default(),
        ast::Expr::Function(call) => call.name.to_string().to_lowercase(),
        ast::Expr::Cast { expr, .. } | ast::Expr::Nested(expr) => header(expr),
        ast::Expr::Case { .. } => "case".into(),
        _ => "?column?".into(),
    }
}

fn has_aggregate(item: &ast::SelectItem) -> bool {
    match item {
        ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => {
            contains_aggregate(expr)
        }
        _ => false,
    }
}

fn contains_aggregate(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Function(call) => {
            AggregateKind::of(&call.name.to_string().to_lowercase()).is_some()
                || arguments(call).is_ok_and(|arguments| arguments.into_iter().any(contains_aggregate))
        }
        ast::Expr::BinaryOp { left, right, .. } => contains_aggregate(left) || contains_aggregate(right),
        ast::Expr::Cast { expr, .. } | ast::Expr::Nested(expr) | ast::Expr::IsNull(expr) => {
            contains_aggregate(expr)
        }
        _ => false,
    }
}

fn has_window(item: &ast::SelectItem) -> bool {
    matches!(item, ast::SelectItem::UnnamedExpr(ast::Expr::Function(call)) if call.over.is_some())
}

fn lock_name(lock: &ast::LockClause) -> &'static str {
    match lock.lock_type {
        ast::LockType::Share => "FOR SHARE",
        ast::LockType::Update => "FOR UPDATE",
    }
}

fn check_wait_policy(query: &ast::Query) -> Result<(), SqlError> {
    let policy = match query.locks.iter().find_map(|lock| lock.nonblock.as_ref()) {
        None => return Ok(()),
        Some(ast::NonBlock::Nowait) => "NOWAIT",
        Some(ast::NonBlock::SkipLocked) => "SKIP LOCKED",
    };
    Err(SqlError::unimplemented(&format!("{policy} lock wait policy is not supported"), Some(40476)))
}

fn refuse_lock(lock: Lock<'_>, what: &str) -> Result<(), SqlError> {
    match lock {
        None => Ok(()),
        Some(lock) => Err(SqlError::new("0A000", format!("{lock} is not allowed with {what}"))),
    }
}

/// Rows that are not rows of a table cannot be locked.
fn check_lock(select: &ast::Select, lock: Lock<'_>) -> Result<(), SqlError> {
    let groups = matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if !keys.is_empty());
    let reasons = [
        (select.distinct.is_some(), "DISTINCT clause"),
        (groups, "GROUP BY clause"),
        (select.having.is_some(), "HAVING clause"),
        (select.projection.iter().any(has_window), "window functions"),
        (select.projection.iter().any(has_aggregate), "aggregate functions"),
    ];
    match reasons.iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => refuse_lock(lock, reason),
        None => Ok(()),
    }
}
